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
        [ ! -f server.log ] || mv -f server.log server.log.1
        "$@" </dev/null >server.log 2>&1 3<&- &
        server=$!
        # Orders to a running server are signals.
        {
            while read -r signal; do kill -s "$signal" "$server"; done
            kill -s "$LAST_SIGNAL" "$server"
        } <&3 &
        listener=$!
        echo started
        wait "$server"
        kill -s KILL "$listener"
        wait "$listener"
        echo ended
        ;;
    esac
done

cd /
[ "$KEEP" ] || rm -rf "$FOLDER"
