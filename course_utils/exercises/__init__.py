"""The exercises of the notebooks: from course_utils import exercises; exercises.loss.q1.check(answer).

One module a notebook. How a question works stands in question.py.
"""

from course_utils.exercises import cnn, environment, loss, start

BY_NOTEBOOK = {
    "00_start_here": start.QUESTIONS,
    "01_environment_setup": environment.QUESTIONS,
    "02_loss_derivation": loss.QUESTIONS,
    "03_cnn_fine_tuning": cnn.QUESTIONS,
}
