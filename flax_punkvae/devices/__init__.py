"""Where does it run? The backend, several devices, several processes."""
