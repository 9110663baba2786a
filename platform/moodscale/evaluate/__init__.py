"""Metrics, bootstrap, calibration, guards and the report a person reads. Reads the Prediction table, nothing else.

The Prediction table
--------------------
One row a scored unit, as Parquet or as CSV (commas, UTF-8, a header line). Any model's output can be judged by it::

    person,unit_id,label,score,split
    daic:300,300-0,0,0.12,validation
    daic:300,300-1,0,0.31,validation
    daic:451,451-0,1,0.77,test
    daic:451,451-1,1,0.58,test

Required columns:

- ``person``: the participant's key. Splits, confidence intervals and the guard go by person, not by clip. A number
  is read as a string.
- ``unit_id``: the clip's (interview's, item's) own key, unique within its ``unit`` and ``target``.
- ``label``: 1 or true for depressed (PHQ total of 10 or more), 0 or false for not depressed.
- ``score``: the probability of depressed, 0 to 1. A model that only answers yes or no writes 1 and 0.

Optional columns, and what is assumed without them:

- ``unit`` (``clip``), ``target`` (``depressed``), ``split`` (``test``), ``model_version`` (``unversioned``).
- ``split`` is ``train``, ``validation`` or ``test``. Threshold and temperature come from the validation rows;
  without any they are 0.5 and 1, and the result says so.
- ``gender``: figures by gender. ``duration_s`` and ``num_turns``: the length baselines.
- ``score_normalised`` (a second score) and ``answer`` (``depressed``, ``not_depressed``, ``unparsable``: the greedy
  answer's class, never its words): reported beside the main figures.

Totals of a questionnaire are judged by the same table with ``target`` ``total`` (and ``item_1`` … where there are
items), ``unit`` ``interview``, ``label`` and ``score`` in points, and a column ``instrument`` (``PHQ-8``, ``PHQ-9``)::

    person,unit_id,unit,target,instrument,label,score,split
    conv:u1,conversations:u1,interview,total,PHQ-9,7,8.4,test

Other columns are ignored, with a note. A person in two splits, a unit scored twice, an empty cell, a label that is
not 0 or 1 and a score outside 0 to 1 are refused with the row's number.

::

    from moodscale.evaluate.evaluate import evaluate
    from moodscale.evaluate.table import read_predictions

    evaluation = evaluate(read_predictions("predictions.csv"))
    evaluation.guard.verdict            # "pass" or "fail"
    evaluation.to_json()["clip"]        # accuracy, auc, …, and their intervals under "ci"

    from moodscale.evaluate.severity.evaluate import evaluate_severity

    evaluate_severity(read_predictions("totals.csv")).figures.values["mae"]

Nothing is imported here: configuration reads ``evaluate.config`` and must not pay for pandas and scikit-learn.
"""
