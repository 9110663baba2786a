"""Run by file name in a new interpreter: load a model as anybody would, score, and write the answer as JSON.

Nothing of moodscale is imported here: what the model needs must come with the model. Waveforms and messages arrive on
standard input and touch no disk.
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

    if request.get("paths") is not None:
        rows = pd.DataFrame({"path": request["paths"]})
    else:
        packed = np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
        columns = {}
        if "messages" in packed.files:
            columns["messages"] = json.loads(packed["messages"].tobytes())
        if names := [name for name in packed.files if name != "messages"]:
            columns |= {"waveform": [packed[name] for name in names], "sample_rate_hz": request["sample_rate_hz"]}
        rows = pd.DataFrame(columns)
    model = mlflow.pyfunc.load_model(request["model_uri"], model_config=request["model_config"])
    answers = model.predict(rows)
    return {"rows": answers.to_dict(orient="records"), "code": sys.modules["moodscale"].__file__}


if __name__ == "__main__":
    main(*sys.argv[1:])
