#!/bin/sh
# act.sh DEED PART …: the deeds of the cluster on this machine; each part has PART.sh or PART.start, PART.pid, PART.log.
cd "$HOME_OF_CLUSTER" || exit 1
tree() { for one in "$@"; do echo "$one"; tree $(pgrep -P "$one"); done; }
pid() { cat "$1.pid"; }
# A number may be another process's by now: those of the cluster work in its folder. A zombie has no folder.
alive() { case $(readlink "/proc/$(pid "$1")/cwd")/ in "$HOME_OF_CLUSTER"/*) ;; *) return 1 ;; esac; }

case $1 in
start) # once the former process is gone
    if [ -f "$2.start" ]; then
        sh "./$2.start" >>"$2.log" 2>&1 </dev/null
    else
        setsid sh "./$2.sh" >>"$2.log" 2>&1 </dev/null &
        echo $! >"$2.pid"
    fi ;;
signal) # SIGNAL PART: the part's own process
    alive "$3" && kill -"$2" "$(pid "$3")" ;;
signal-all) # SIGNAL PART: with all that the process has started; some of these may be gone by then
    alive "$3" || exit 1
    kill -"$2" $(tree "$(pid "$3")") 2>/dev/null || true ;;
pick) # WORKER server|child NAME: its fork server, or a process that this has forked, for `signal`
    found=$(pgrep -P "$(pid "$2")" -f jittask_prefect.warm)
    [ "$3" = child ] && found=$(for one in $found; do pgrep -P "$one"; done)
    [ -n "$found" ] && echo "$found" | shuf -n 1 >"$4.pid" ;;
mend) # PART: start a part that is not alive
    alive "$2" || sh "$0" start "$2" ;;
roll) # PART …: end each as an upgrade does, and start each again
    shift
    for part in "$@"; do
        alive "$part" && kill -TERM "$(pid "$part")"
        for _ in $(seq 600); do alive "$part" || break; sleep 0.1; done
        sh "$0" signal-all KILL "$part" # as systemd does
        sh "$0" start "$part"
        if [ -f "$part.ready" ]; then
            for _ in $(seq 300); do sh "./$part.ready" >/dev/null 2>&1 && break; sleep 0.2; done
        fi
    done ;;
fill) # FOLDER: until its disk is full
    dd if=/dev/zero of="$2/filler" bs=64k 2>/dev/null
    [ -f "$2/filler" ] ;;
*)
    echo "no deed $1" >&2
    exit 2 ;;
esac
