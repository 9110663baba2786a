"""`ray job submit … -- python jobs/ensemble.py CONFIG [section.field=value …]`: the verb as a job."""

import sys

from moodscale.cli import main

if __name__ == "__main__":
    main(["ensemble", *sys.argv[1:]])
