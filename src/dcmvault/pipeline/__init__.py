"""The stages of the flow, in its order: selection, planning, delivery, verification.

Stages are plain functions over ports; what they conclude goes into the catalogue.
"""
