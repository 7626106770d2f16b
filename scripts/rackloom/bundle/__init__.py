"""What goes across the air gap: one folder that holds everything a site takes from outside."""
