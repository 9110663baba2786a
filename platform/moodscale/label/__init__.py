"""Labels from elsewhere than a questionnaire: teachers read transcripts and score the questionnaire's items."""
