"""The full-screen app: a job, every GPU, and what fills the selected one."""
