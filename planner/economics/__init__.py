"""Money and energy: renting, spot interruptions, owning, managed services, pretraining. One question per file."""
