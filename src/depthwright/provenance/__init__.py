"""Where a picture comes from: content credentials, IPTC's mark and a receipt in every file, and how they are read."""
