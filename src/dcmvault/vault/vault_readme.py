"""What a stranger reads who opens a vault's folder."""

README = """\
This is a dcmvault vault: a backup of medical images (DICOM files).

It may be the only copy. Do not change, rename or delete anything in it.

The files in it are compressed and (unless made otherwise) encrypted. To get them back:

  1. With dcmvault:       dcmvault restore vault:THIS_FOLDER A_NEW_FOLDER
  2. Without dcmvault:    the folder `rescue` holds a small program (rescue-....py) and the
                          description of the format (vault-format-....md). The program needs
                          Python and says at its top which packages:
                          python rescue-....py THIS_FOLDER A_NEW_FOLDER

Both ask for the passphrase, or take a key file or the printed recovery key. Without one of them
nobody can open an encrypted vault, not even its makers.

To see whether it is sound (needs no key):   dcmvault vault check THIS_FOLDER --keyless
"""
