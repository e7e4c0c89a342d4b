"""PAN, patches as nodes: a graph network over the image patches that hold a person's joints."""
