"""Small teachers and records."""

TEACHER = {"teacher": {"network": "ConvNetD1W4BN", "epochs": 8, "learning_rate": 0.1, "augment": "none"}}


RECORD = {"epochs": 3, "batch_size": 8, "views": {"scale": [0.5, 1.0]}}
