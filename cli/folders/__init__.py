"""diff, apply and export: folders of unit files on this side, the cluster on the other."""
