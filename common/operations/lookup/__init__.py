"""Find orders and events for operators, list and count them, take them away."""
