from meshlab.lab.lab import Lab

__all__ = ["Lab"]
