"""In: what a run says as it goes. Out: its log files and its lease, in a directory or a bucket."""
