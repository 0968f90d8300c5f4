"""The text that a folder destination carries for whoever finds it without dcmvault."""

from __future__ import annotations

README = """\
DICOM studies, backed up by dcmvault
====================================

(Em português: veja abaixo.)

WHAT IS HERE

  studies/    DICOM files, byte for byte as they were at their source. Each folder is one study.
              Each file is named by the SHA-256 of its bytes: <SHA-256>.dcm
              (The folder's name is the first 32 digits of the SHA-256 of the study's
              Study Instance UID. No name in this folder tells anything about a patient.)
  opaque/     Files that claimed to be DICOM and could not be parsed, also byte for byte.
  manifests/  Lists for checking, one for each delivery that ended. A file that is in no list is
              from a delivery that was interrupted; its own name tells its SHA-256.

The files contain patient data. Keep this folder as you would keep the archive itself.

HOW TO CHECK IT (no special software needed)

  Linux:  cd HERE && sha256sum --quiet -c manifests/*.sha256
  macOS:  cd HERE && cat manifests/*.sha256 | shasum -a 256 -c - | grep -v ': OK$'

No output means: every listed file is there, and every byte of it is right.

HOW TO GET STUDIES BACK WITHOUT DCMVAULT

  Every file under studies/ is an ordinary DICOM file. Copy what you want to a disk and import
  that folder into any DICOM viewer (OsiriX, Horos, Weasis, 3D Slicer ...), or send it to a PACS:

    storescu +sd +r PACS-HOST PORT studies            (DCMTK)

  To find a study by its Study Instance UID (on macOS: shasum -a 256):

    printf %s 1.2.840.99999.1 | sha256sum | cut -c1-32    prints the name of its folder

With dcmvault:  dcmvault verify, dcmvault backup. Running the same backup again replaces what is
missing or damaged here. Do not edit, rename or add files in this folder.


EM PORTUGUÊS

  studies/    Arquivos DICOM, byte a byte como estavam na origem. Cada pasta é um estudo.
              O nome de cada arquivo é o SHA-256 do seu conteúdo.
  opaque/     Arquivos que diziam ser DICOM e não puderam ser lidos como tal, também byte a byte.
  manifests/  Listas para conferência.

Para conferir (Linux):  cd AQUI && sha256sum --quiet -c manifests/*.sha256
Sem nenhuma saída: todos os arquivos listados estão aqui, e cada byte está certo.

Para recuperar sem o dcmvault: cada arquivo em studies/ é um arquivo DICOM comum. Copie a pasta
desejada e importe-a em qualquer visualizador DICOM (OsiriX, Horos, Weasis ...), ou envie-a a um
PACS. Os arquivos contêm dados de pacientes: guarde esta pasta como guardaria o próprio arquivo.
"""
