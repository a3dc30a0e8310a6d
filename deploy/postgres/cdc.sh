#!/usr/bin/env bash
# What RELAY=cdc needs of the server: application roles that may follow its log. They keep that right when the relay polls
# again, since one who has made a slot must be able to drop it. Connects as psql does: PGHOST, PGUSER, PGPASSWORD.
set -euo pipefail

for service in ${SERVICES:-order payment inventory warehouse email analytics}; do
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --dbname postgres \
        --command "alter role shop_${service}_app with replication"
    echo "The log may be followed by $service."
done
