#!/bin/sh
# Plays nvidia-smi and dcgmi from files that lie beside it: the answer, and its exit code in a second file. A file `hang`
# makes it never answer.
here=$(dirname "$0")
case "${0##*/} $*" in
    "nvidia-smi -q -x") answer=query.xml ;;
    "nvidia-smi -L") answer=list.txt ;;
    "nvidia-smi nvlink -s") answer=nvlink.txt ;;
    "dcgmi health -c -j") answer=dcgm.json ;;
    *) exit 2 ;;
esac
[ -e "$here/$answer.hang" ] && exec sleep 60
cat "$here/$answer"
[ -e "$here/$answer.code" ] || exit 0
exit "$(cat "$here/$answer.code")"
