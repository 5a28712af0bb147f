"""What the benchmark scripts share: starting servers and clients, measuring them, and printing tables and charts."""
