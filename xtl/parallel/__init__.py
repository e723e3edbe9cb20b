"""How the program is spread: mesh and sharding, several hosts, chips and their compiler flags."""
