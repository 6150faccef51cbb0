"""What tests of fleet need and users of its ports may need too: a virtual clock."""
