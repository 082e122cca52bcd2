"""What the black-box tests stand on: real servers, a real daemon, and clients that show every byte."""
