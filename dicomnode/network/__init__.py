"""Associations, messages and files as they are on the wire (PS3.7, PS3.8, PS3.10); knows no study."""
