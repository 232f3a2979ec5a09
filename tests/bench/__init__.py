"""What an event costs: `make bench`. Figures, never assertions: machines differ and are noisy."""
