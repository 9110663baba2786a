"""Who labels: one file a kind of teacher."""
