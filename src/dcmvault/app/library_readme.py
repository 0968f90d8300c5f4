"""The text that lies beside what was brought back of a library, for who goes on by hand."""

from __future__ import annotations

README_FILE = "READ-ME.txt"

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

#: Beside a library that files were restored into.
OF_A_LIVE_LIBRARY = """\
What dcmvault restored for your OsiriX or Horos library
=======================================================

(Em português: veja abaixo.)

The images, and regions of interest, reports and window states that the viewer keeps as DICOM, are
in the folder INCOMING.noindex of your library, and the viewer imports them while it runs. Comments,
states, key images and membership in albums come back with them, as annotations SRs.

WHAT IS LEFT FOR YOU TO DO, when all images are imported

  Albums.albums       In the viewer: Albums menu, Add Albums, and choose this file. Smart albums
                      come back with their conditions. Albums that are there already are kept.
  not-imported.json   What the viewer has no door for: locks, comments of single images, zoom,
                      window level and width, links to reports. To read, and to set by hand.
  a folder named as   The old library's own files: reports/ (put them into REPORTS of the library,
  the old library     or link them again), linked-reports/, rois/, library/ (presets, tables of
                      colours, templates, 3D states: quit the viewer, then copy them to the same
                      places in the new library), index/ (the old index), library.json.
  other files         Files that are no DICOM: drag them into the viewer.

A library with everything in its place, without any of this, comes back into a NEW folder:

  dcmvault restore VAULT FOLDER --layout library

This folder has patient data. Delete it when you need it no more.


EM PORTUGUÊS

As imagens, e as regiões de interesse, laudos e estados de janelas que o visualizador guarda em
DICOM, estão na pasta INCOMING.noindex da biblioteca, e o visualizador os importa quando está
aberto. Comentários, estados, imagens-chave e a participação em álbuns voltam com elas.

O QUE FALTA FAZER, depois que todas as imagens forem importadas

  Albums.albums       No visualizador: menu Álbuns, Adicionar álbuns, e escolha este arquivo.
  not-imported.json   O que o visualizador não importa: bloqueios, comentários de imagens, zoom,
                      janelas, vínculos com laudos. Para ler, e refazer à mão.
  uma pasta com o     Os arquivos da própria biblioteca: reports/ (laudos), linked-reports/, rois/,
  nome da antiga      library/ (predefinições, cores, modelos, estados 3D), index/, library.json.
  other files         Arquivos que não são DICOM: arraste-os para o visualizador.

Uma biblioteca completa, sem nada disso a fazer, volta para uma pasta NOVA:

  dcmvault restore COFRE PASTA --layout library

Esta pasta contém dados de pacientes. Apague-a quando não precisar mais dela.
"""
