#!/usr/bin/env bash
# A database for every service, and two roles: shop_order owns it and is used by migrations alone, shop_order_app is what
# the service runs as. Nobody else gets in, but shop_auditor, who reads everything and changes nothing.
#
# May be run at any time: it adds what is missing and sets the passwords anew, from POSTGRES_ORDER_OWNER_PASSWORD,
# POSTGRES_ORDER_PASSWORD and so on. Which tables an application role may change is said by whoever migrates.
# Connects as psql does: PGHOST, PGUSER, PGPASSWORD.
set -euo pipefail

SERVICES=${SERVICES:-order payment inventory warehouse email analytics}

sql() { # reads statements; arguments are psql's
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --dbname postgres "$@"
}

role() { # NAME, and the VARIABLE that holds its password
    [[ -n ${!2:-} ]] || { echo "$2 is not set" >&2; exit 1; }
    sql --set role="$1" <<SQL
\getenv password $2
select format('create role %I', :'role') where not exists (select from pg_roles where rolname = :'role') \gexec
alter role :"role" with login nosuperuser nocreatedb nocreaterole nobypassrls password :'password';
SQL
}

role shop_auditor POSTGRES_AUDITOR_PASSWORD
sql <<'SQL'
grant pg_read_all_data, pg_read_all_stats to shop_auditor;
revoke all on database postgres, template1 from public;
SQL

for service in $SERVICES; do
    role "shop_$service" "POSTGRES_${service^^}_OWNER_PASSWORD"
    role "shop_${service}_app" "POSTGRES_${service^^}_PASSWORD"
    sql --set owner="shop_$service" --set app="shop_${service}_app" <<'SQL'
select format('create database %I owner %I', :'owner', :'owner')
where not exists (select from pg_database where datname = :'owner') \gexec
revoke all on database :"owner" from public;
grant connect on database :"owner" to :"app", shop_auditor;
SQL
    echo "Database and roles of $service are as they should be."
done
