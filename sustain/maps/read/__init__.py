"""Values of a map at places, in zones and for areas."""
