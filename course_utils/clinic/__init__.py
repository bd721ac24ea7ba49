"""The clinic of notebook 05: sick trainings, what can be measured of them, and what speaks for each diagnosis.

from course_utils import clinic

clinic.PATIENTS["ada"].card  # what the owner says; .sick_run and .healed_run are its logs
clinic.diagnose("ada", "dead layer")  # a verdict, and the evidence
clinic.walk(clinic.signs("runs/mine", num_classes=10))  # a run of your own, through all diagnoses
"""

from course_utils.clinic.charts import bedside, plot_beside_healthy, plot_patient, show_patient
from course_utils.clinic.diagnoses import CHART, DIAGNOSES, QUESTIONS, Opinion, walk
from course_utils.clinic.patients import (
    CLINIC,
    PATIENTS,
    Patient,
    Verdict,
    diagnose,
    find,
    healthy_ranges,
    healthy_rows,
    reveal_choice,
    reveal_leak,
    wrong_diagnoses,
)
from course_utils.clinic.signs import MEANING, signs
from course_utils.clinic.ward import Training

__all__ = [
    "CHART",
    "CLINIC",
    "DIAGNOSES",
    "MEANING",
    "PATIENTS",
    "QUESTIONS",
    "Opinion",
    "Patient",
    "Training",
    "Verdict",
    "bedside",
    "diagnose",
    "find",
    "healthy_ranges",
    "healthy_rows",
    "plot_beside_healthy",
    "plot_patient",
    "reveal_choice",
    "reveal_leak",
    "show_patient",
    "signs",
    "walk",
    "wrong_diagnoses",
]
