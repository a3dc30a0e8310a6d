# Runs one server on behalf of an owner, who holds the other end of standard input and gives orders
# on it, one a line. However the owner ends, that input ends too: then the server is ended and a
# temporary folder removed. "$@" is the server's command.
trap '' HUP INT TERM PIPE
umask 077
exec 3<&0
[ "$KEEP" ] || mkdir "$FOLDER" || exit
cd "$FOLDER" || exit
echo open

while read -r order <&3; do
    case $order in
    prepare)
        sh -c "$PREPARE" prepare "$@" </dev/null >prepare.log 2>&1 3<&-
        echo "prepared $?"
        ;;
    start)
        [ "$APPEND" ] || [ ! -f "$LOG" ] || mv -f "$LOG" "$LOG.1"
        # What this shell ignores, its child would ignore as well.
        (trap - HUP INT TERM PIPE && exec "$@") </dev/null >>"$LOG" 2>&1 3<&- &
        server=$!
        # Orders to a running server are signals.
        {
            while read -r signal; do kill -s "$signal" "$server"; done
            kill -s "$LAST_SIGNAL" "$server"
        } <&3 &
        listener=$!
        echo "started $server"
        wait "$server"
        kill -s KILL "$listener"
        wait "$listener"
        echo ended
        ;;
    esac
done

cd /
# Once more when somebody was still writing.
[ "$KEEP" ] || rm -rf "$FOLDER" || { sleep 1 && rm -rf "$FOLDER"; }
