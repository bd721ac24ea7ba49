"""The exercises of the notebooks: from course_utils import exercises; exercises.loss.q1.check(answer).

One module a notebook. How a question works stands in question.py.
"""

from course_utils.exercises import (
    clinic,
    cnn,
    environment,
    federated,
    logging_traps,
    loss,
    next_steps,
    over_fitting,
    own_pictures,
    recommender,
    start,
    tensorboard,
    text,
)

BY_NOTEBOOK = {
    "00_start_here": start.QUESTIONS,
    "01_environment_setup": environment.QUESTIONS,
    "02_loss_derivation": loss.QUESTIONS,
    "03_cnn_fine_tuning": cnn.QUESTIONS,
    "03c_your_own_pictures": own_pictures.QUESTIONS,
    "04_tensorboardx_visualization": tensorboard.QUESTIONS,
    "04b_logging_traps": logging_traps.QUESTIONS,
    "05_diagnosing_training": clinic.QUESTIONS,
    "05b_over_fitting_and_cost": over_fitting.QUESTIONS,
    "06_text_fine_tuning": text.QUESTIONS,
    "07_recommender_fine_tuning": recommender.QUESTIONS,
    "08_what_comes_next": next_steps.QUESTIONS,
    "09_federated_and_beyond": federated.QUESTIONS,
}
