-- The product database of a company that sells incident management. Every table has `updated_at`, which the loader uses as its cursor.

create table organisations (
    id text primary key,
    name text not null,
    slug text not null unique,
    industry text not null,
    region text not null check (region in ('emea', 'amer', 'apac')),
    timezone text not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create table users (
    id text primary key,
    organisation_id text not null references organisations (id) on delete cascade,
    email text not null unique,
    name text not null,
    role text not null check (role in ('owner', 'admin', 'responder', 'viewer')),
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create table subscriptions (
    id text primary key,
    organisation_id text not null references organisations (id) on delete cascade,
    plan text not null check (plan in ('team', 'pro', 'enterprise')),
    seats integer not null check (seats > 0),
    mrr_cents integer not null check (mrr_cents >= 0),
    status text not null check (status in ('trialing', 'active', 'past_due', 'cancelled')),
    started_at timestamptz not null,
    cancelled_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create table schedules (
    id text primary key,
    organisation_id text not null references organisations (id) on delete cascade,
    name text not null,
    timezone text not null,
    working_hours_start smallint not null check (working_hours_start between 0 and 23),
    working_hours_end smallint not null check (working_hours_end between 1 and 24),
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create table shifts (
    id text primary key,
    schedule_id text not null references schedules (id) on delete cascade,
    user_id text not null references users (id) on delete cascade,
    starts_at timestamptz not null,
    ends_at timestamptz not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create table incidents (
    id text primary key,
    organisation_id text not null references organisations (id) on delete cascade,
    reference text not null,
    name text not null,
    severity text not null check (severity in ('minor', 'major', 'critical')),
    status text not null check (status in ('triage', 'investigating', 'mitigated', 'resolved', 'declined')),
    declared_by_user_id text references users (id) on delete set null,
    declared_at timestamptz not null,
    mitigated_at timestamptz,
    resolved_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    unique (organisation_id, reference)
);

create table incident_updates (
    id text primary key,
    incident_id text not null references incidents (id) on delete cascade,
    user_id text references users (id) on delete set null,
    to_status text not null,
    message text not null,
    posted_at timestamptz not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create table incident_participants (
    id text primary key,
    incident_id text not null references incidents (id) on delete cascade,
    user_id text not null references users (id) on delete cascade,
    role text not null check (role in ('lead', 'responder', 'observer')),
    minutes_worked integer not null check (minutes_worked >= 0),
    created_at timestamptz not null,
    updated_at timestamptz not null,
    unique (incident_id, user_id)
);

create table alerts (
    id text primary key,
    organisation_id text not null references organisations (id) on delete cascade,
    incident_id text references incidents (id) on delete set null,
    source text not null,
    title text not null,
    status text not null check (status in ('firing', 'resolved')),
    fired_at timestamptz not null,
    resolved_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create table escalations (
    id text primary key,
    organisation_id text not null references organisations (id) on delete cascade,
    alert_id text not null references alerts (id) on delete cascade,
    schedule_id text not null references schedules (id) on delete cascade,
    status text not null check (status in ('triggered', 'acked', 'resolved', 'expired')),
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create table pages (
    id text primary key,
    escalation_id text not null references escalations (id) on delete cascade,
    user_id text not null references users (id) on delete cascade,
    channel text not null check (channel in ('push', 'phone', 'sms', 'email')),
    paged_at timestamptz not null,
    acked_at timestamptz,
    out_of_hours boolean not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create table post_incident_tasks (
    id text primary key,
    incident_id text not null references incidents (id) on delete cascade,
    organisation_id text not null references organisations (id) on delete cascade,
    assignee_user_id text references users (id) on delete set null,
    title text not null,
    status text not null check (status in ('open', 'done', 'dropped')),
    due_at timestamptz not null,
    completed_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
