#!/bin/sh
# Runs once, when a server's data folder is made: a database, its owner, and the application that owns nothing.
set -eu
psql --quiet --username postgres --set ON_ERROR_STOP=1 \
    --set owner="shop_$SERVICE" --set owner_password="$OWNER_PASSWORD" \
    --set app="shop_${SERVICE}_app" --set app_password="$APP_PASSWORD" <<'SQL'
create role :"owner" login password :'owner_password';
create role :"app" login password :'app_password';
create database :"owner" owner :"owner";
revoke all on database postgres, template1 from public;
SQL
