"""`ray job submit … -- python jobs/extract.py CONFIG [section.field=value …]`: the verb as a job."""

import sys

from moodscale.cli import main

if __name__ == "__main__":
    main(["extract", *sys.argv[1:]])
