"""The clinic of notebook 05: sick trainings, what can be measured of them, and what speaks for each diagnosis.

from course_utils import clinic

clinic.PATIENTS["ada"].card  # what the owner says; .sick_run and .healed_run are its logs
clinic.diagnose("ada", "dead layer")  # a verdict, and the evidence
clinic.walk(clinic.signs("runs/mine", num_classes=10))  # a run of your own, through all diagnoses
"""

from course_utils.clinic.diagnoses import DIAGNOSES, Opinion, walk
from course_utils.clinic.patients import (
    CLINIC,
    PATIENTS,
    Patient,
    Verdict,
    diagnose,
    healthy_ranges,
    healthy_rows,
    reveal_choice,
    reveal_leak,
    wrong_diagnoses,
)
from course_utils.clinic.signs import MEANING, signs
from course_utils.clinic.ward import Training

__all__ = [
    "CLINIC",
    "DIAGNOSES",
    "MEANING",
    "PATIENTS",
    "Opinion",
    "Patient",
    "Training",
    "Verdict",
    "diagnose",
    "healthy_ranges",
    "healthy_rows",
    "reveal_choice",
    "reveal_leak",
    "signs",
    "walk",
    "wrong_diagnoses",
]
