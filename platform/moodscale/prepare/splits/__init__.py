"""Who is trained on, validated on and tested on: one file a way of splitting, always by person."""
