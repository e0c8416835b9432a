"""Errors of depth maps and camera poses: arrays in, numbers out; averaging over pictures and scenes is the report's."""
