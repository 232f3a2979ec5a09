"""What both programs show the people who run them: setting names, log lines, health and metrics."""
