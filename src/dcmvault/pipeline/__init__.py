"""The stages of the flow, each a plain function or class over ports."""
