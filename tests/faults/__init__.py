"""What goes wrong around redspan, under load: with books kept of every job, beside the same fault without redspan."""
