"""One screen per question a person asks beside the table."""
