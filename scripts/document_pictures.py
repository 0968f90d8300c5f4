"""The pictures in documents, by name: which page each shows, and in which language."""

from __future__ import annotations

from pathlib import Path

from scripts.dashboard_camera import Kept

#: Where they are kept, from the top of the repository.
IMAGES = Path("docs", "images")
PICTURES = (
    Kept("overview.png", "overview", size=(1180, 760)),
    Kept("studies.png", "studies", from_=".tabs", size=(1200, 560)),
    Kept("find-my-images.png", "wizard-found"),
    Kept("where-to-keep-copies.png", "wizard-copies-chosen"),
    Kept("check-first.png", "wizard-expectation"),
    Kept("first-proven-run.png", "first-run"),
    Kept("encontrar-minhas-imagens.png", "wizard-found", "pt-BR"),
    Kept("onde-guardar-copias.png", "wizard-copies-chosen", "pt-BR"),
    Kept("conferir-antes.png", "wizard-expectation", "pt-BR"),
    Kept("primeira-execucao-comprovada.png", "first-run", "pt-BR"),
)
