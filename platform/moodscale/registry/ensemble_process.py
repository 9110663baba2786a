"""Run by file name in a new interpreter, like ``fresh_process.py``: rows here hold waveforms and messages both.

Nothing of moodscale is imported here. What was said and recorded arrives on standard input and touches no disk.
"""

import io
import json
import sys
from pathlib import Path
from typing import Any


def main(request_file: str, answer_file: str) -> None:
    request = json.loads(Path(request_file).read_text())
    try:
        answer = _score(request)
    except Exception as error:
        chain: list[BaseException] = [error]
        while (cause := chain[-1].__cause__) is not None:
            chain.append(cause)
        answer = {"errors": [(type(one).__name__, str(one)) for one in chain]}
    Path(answer_file).write_text(json.dumps(answer))


def _score(request: dict[str, Any]) -> dict[str, Any]:
    import mlflow.pyfunc
    import numpy as np
    import pandas as pd

    packed = np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
    rows = pd.DataFrame({"messages": json.loads(packed["messages"].tobytes())})
    rows["waveform"] = [packed[f"waveform_{number}"] for number in range(len(rows))]
    rows["sample_rate_hz"] = request["sample_rate_hz"]
    model = mlflow.pyfunc.load_model(request["model_uri"], model_config=request["model_config"])
    answers = model.predict(rows)
    return {"rows": answers.to_dict(orient="records"), "code": sys.modules["moodscale"].__file__}


if __name__ == "__main__":
    main(*sys.argv[1:])
