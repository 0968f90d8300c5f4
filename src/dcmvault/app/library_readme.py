"""The text that lies beside what was brought back of a library, for who goes on by hand."""

from __future__ import annotations

README_FILE = "READ ME.txt"

#: In the companion folder of a library that was restored whole, into a new folder.
OF_A_NEW_LIBRARY = """\
What dcmvault restored beside this library
==========================================

(Em português: veja abaixo.)

The folder above this one is a whole OsiriX or Horos library: its files in DATABASE.noindex, its
index (Database.sql) with albums, comments, states and key images, its reports, regions of interest,
presets and templates. To use it: quit the viewer, start it while you hold the Alt (Option) key, and
choose that folder; or put it where your library was.

  index/             the index byte for byte as it was backed up
  library.json       what the index says, in plain words
  older versions/    files that the old library had later in another version, under the same name
  DBFOLDER_LOCATION  where the old library kept its files, if that was elsewhere

LINKED, beside DATABASE.noindex, has the files that the old library only named and did not hold.
The index names them by their path there: after you move the library, let the viewer rebuild it, or
restore it again. This folder, and nothing else, may be deleted when all is well.


EM PORTUGUÊS

A pasta acima desta é uma biblioteca completa do OsiriX ou Horos: os arquivos em DATABASE.noindex, o
índice (Database.sql) com álbuns, comentários, estados e imagens-chave, os laudos, as regiões de
interesse, as predefinições e os modelos. Para usá-la: feche o visualizador, abra-o segurando a
tecla Alt (Option) e escolha essa pasta; ou coloque-a onde estava a sua biblioteca.

  index/             o índice, byte a byte como foi copiado
  library.json       o que o índice diz, em texto
  older versions/    arquivos que a biblioteca antiga teve depois em outra versão, com o mesmo nome
  DBFOLDER_LOCATION  onde a biblioteca antiga guardava os arquivos, se era em outro lugar

LINKED, ao lado de DATABASE.noindex, tem os arquivos que a biblioteca antiga apenas citava. O índice
os cita por esse caminho: se mover a biblioteca, reconstrua o banco de dados no visualizador, ou
restaure de novo. Só esta pasta pode ser apagada quando tudo estiver bem.
"""
