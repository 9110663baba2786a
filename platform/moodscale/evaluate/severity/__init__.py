"""Judging predicted severity: totals of a questionnaire, and its items. Reads the Prediction table, nothing else.

Rows of a severity model have ``unit`` = ``interview`` and ``target`` = ``total``; ``label`` is the questionnaire's
total, ``score`` the predicted one (0 to 24 for PHQ-8, 0 to 27 for PHQ-9), ``instrument`` says which. Rows with
``target`` = ``item_1`` … ``item_9`` hold single items, 0 to 3, and may be left out::

    person,unit,unit_id,target,label,score,split,instrument
    chat:17,interview,17-0,total,12,10.4,test,PHQ-9
    chat:17,interview,17-1,total,15,13.9,test,PHQ-9
    chat:23,interview,23-0,total,3,4.2,test,PHQ-9

A person with several interviews has a unit for each; intervals resample persons.

::

    from moodscale.evaluate.severity.evaluate import SeverityContext, evaluate_severity

    evaluation = evaluate_severity(table, context=SeverityContext(rivals={"TF-IDF + ridge": other}))
    evaluation.guard.verdict             # "pass" or "fail"
    evaluation.to_json()["mae"]          # and its interval under ["ci"]["mae"]

Nothing is imported here, so that configuration stays cheap to read.
"""
