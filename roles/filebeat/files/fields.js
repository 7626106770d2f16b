// What a line says, as fields: the same ones as those of the store that Rackloom has by default.
// (No sign of Filebeat's own variables may stand in here: it would fill them in.)
var LEVELS = ["emerg", "alert", "critical", "error", "warning", "notice", "info", "debug"];
var JOB = /(?:\b(?:JobId|JOB_ID|StepId)=|\b[Jj]ob(?:[Ii]d)?[ =])\[?(\d+)/;
var SLURM_LEVEL = /slurm\w+: (error|fatal|debug)\d?: /;
var JOB_GROUP = /\/job_(\d+)(?:\/|$)/;
var POD_GROUP = /[-\/]pod([0-9a-f]{8}[-_][0-9a-f_-]{27})/;
var POD_PATH = /\/([a-z0-9.-]+)_([a-z0-9.-]+)_[0-9a-f-]+\/([a-z0-9.-]+)\/\d+\.log/;
var SCOPE = /(?:[-_:@][0-9a-fr]+)+(?=\.scope$)/;
var STAMP = /^\[?(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?(Z|[+-]\d\d:?\d\d)?\]?\s*/;
var node = "", users = {};

function register(params) {
    node = params.node;
    users = params.users || {};
}

function first(event, names) {
    for (var i = 0; i < names.length; i++) {
        var value = event.Get(names[i]);
        if (value !== null && value !== undefined && value !== "") {
            return String(value);
        }
    }
    return "";
}

function journal(event, message) {
    var program = first(event, ["syslog.identifier", "log.syslog.appname", "journald.process.name", "process.name"]);
    var group = first(event, ["systemd.cgroup"]);
    var transport = first(event, ["systemd.transport"]);
    var uid = first(event, ["journald.uid", "user.id"]);
    var unit = first(event, ["systemd.unit"]);
    if (unit === "init.scope") { // what systemd says about a unit belongs to it
        unit = first(event, ["journald.custom.unit", "journald.custom.UNIT"]) || unit;
    }
    var priority = first(event, ["log.syslog.priority", "syslog.priority"]);
    var found = {
        unit: unit.replace(SCOPE, "") || (transport === "kernel" ? "kernel" : program || transport),
        level: LEVELS[priority === "" ? -1 : Number(priority)],
        program: program,
        pid: first(event, ["journald.pid", "process.pid"]),
        uid: uid,
        user: uid === "" ? "" : users[uid],
        user_unit: first(event, ["systemd.user_unit"])
    };
    var slurm = program.indexOf("slurm") === 0;
    var level = slurm ? SLURM_LEVEL.exec(message) : null;
    if (level) {
        found.level = level[1] === "fatal" ? "critical" : level[1]; // for the journal all of it is stderr
    }
    var job = JOB_GROUP.exec(group) || (slurm ? JOB.exec(message) : null);
    if (job) {
        found.job_id = job[1];
    }
    var pod = POD_GROUP.exec(group);
    if (pod) {
        found.pod_uid = pod[1].replace(/_/g, "-");
    }
    return found;
}

function container(event, path) {
    var pod = POD_PATH.exec(path) || [];
    return {namespace: pod[1], pod: pod[2], container: pod[3], stream: first(event, ["stream"])};
}

function audit(message) {
    var told;
    try {
        told = JSON.parse(message);
    } catch (error) {
        return {};
    }
    if (told === null || typeof told !== "object") {
        return {};
    }
    var about = told.objectRef || {};
    return {
        when: told.stageTimestamp,
        message: ((told.verb || "") + " " + (told.requestURI || "")).trim() || message,
        user: (told.user || {}).username,
        verb: told.verb,
        stage: told.stage,
        code: (told.responseStatus || {}).code,
        namespace: about.namespace,
        resource: about.resource,
        name: about.name,
        audit_id: told.auditID
    };
}

function text(message) {
    var stamp = STAMP.exec(message);
    var rest = stamp ? message.slice(stamp[0].length) : message;
    var job = JOB.exec(rest);
    var zone = stamp && stamp[4] ? stamp[4].replace(/^([+-]\d\d)(\d\d)$/, "$1:$2") : "";
    return {
        when: stamp ? stamp[1] + "T" + stamp[2] + "." + ((stamp[3] || "") + "000").slice(0, 3) + zone : undefined,
        message: rest || message,
        job_id: job ? job[1] : undefined
    };
}

function process(event) {
    var from = event.Get("rackloom");
    var message = first(event, ["message"]);
    var path = first(event, ["log.file.path"]);
    var found;
    if (!from) {
        found = journal(event, message);
    } else {
        found = from.format === "container" ? container(event, path) : from.format === "audit" ? audit(message) : text(message);
        found.unit = from.unit;
        found.file = path;
    }
    if (found.when) {
        var when = new Date(found.when);
        if (!isNaN(when.getTime())) {
            event.Put("@timestamp", when);
        }
        delete found.when;
    }
    var rest = ["rackloom", "agent", "ecs", "host", "input", "log", "journald", "systemd", "syslog", "process", "event", "stream"];
    for (var i = 0; i < rest.length; i++) {
        event.Delete(rest[i]);
    }
    event.Delete("user");
    found.message = found.message || message || "-";
    found.node = node;
    for (var name in found) {
        if (found[name] !== undefined && found[name] !== null && found[name] !== "") {
            event.Put(name, String(found[name]));
        }
    }
}
