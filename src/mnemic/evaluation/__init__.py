"""Is it any good: labelled data, the measures, a run, and its report. `mnemic eval` is its command."""
