"""`ray job submit … -- python jobs/score.py MODEL --manifest DIR --out DIR`: the verb as a job."""

import sys

from moodscale.cli import main

if __name__ == "__main__":
    main(["score", *sys.argv[1:]])
