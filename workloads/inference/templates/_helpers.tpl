{{- define "inference.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "inference.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "inference.name" .) .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name (include "inference.name" .) | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{/* Labels that never change. Takes a dict: root, part. */}}
{{- define "inference.selector" -}}
app.kubernetes.io/name: {{ include "inference.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "inference.labels" -}}
{{ include "inference.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "inference.image" -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end }}

{{/* "yes" where a kind is wanted and, for auto, there. Takes a dict: root, mode, kind. */}}
{{- define "inference.wants" -}}
{{- if eq .mode "always" -}}yes
{{- else if and (eq .mode "auto") (.root.Capabilities.APIVersions.Has .kind) -}}yes
{{- end -}}
{{- end }}

{{- define "inference.claim" -}}
{{ .Values.models.pvc.existingClaim | default (printf "%s-models" (include "inference.fullname" .)) }}
{{- end }}

{{- define "inference.scripts" -}}
{{ include "inference.fullname" . }}-scripts
{{- end }}

{{/* Address of the server's HTTP inside the cluster. */}}
{{- define "inference.serverUrl" -}}
{{ .Values.client.server | default (printf "http://%s-server:8000" (include "inference.fullname" .)) }}
{{- end }}

{{/* Requests and limits with the GPUs of a part. */}}
{{- define "inference.resources" -}}
{{- $all := deepCopy .resources -}}
{{- if .gpu.claimTemplate -}}
{{- $_ := set $all "claims" (list (dict "name" "gpu")) -}}
{{- else if gt (int .gpu.count) 0 -}}
{{- $limits := merge (dict .gpu.resource (.gpu.count | toString)) (default dict $all.limits) -}}
{{- $_ := set $all "limits" $limits -}}
{{- end -}}
{{ toYaml $all }}
{{- end }}

{{/* What the pods of all parts have in common. Takes a dict: root, values. */}}
{{- define "inference.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.runtimeClass }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .values.priorityClass }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- if and .values.gpu .values.gpu.claimTemplate }}
resourceClaims:
  - name: gpu
    resourceClaimTemplateName: {{ .values.gpu.claimTemplate }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .values.user | default 1000 }}
  runAsGroup: {{ .values.user | default 1000 }}
  fsGroup: {{ .values.user | default 1000 }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "inference.locked" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
{{- end }}

{{/* The volume with the models. Nothing for a bucket. */}}
{{- define "inference.modelVolume" -}}
{{- if eq .Values.models.type "pvc" }}
- name: models
  persistentVolumeClaim: {claimName: {{ include "inference.claim" . }}}
{{- else if eq .Values.models.type "hostPath" }}
- name: models
  hostPath: {path: {{ .Values.models.hostPath.path | quote }}, type: Directory}
{{- end }}
{{- end }}

{{/* The bucket's region and keys, by reference. */}}
{{- define "inference.modelEnv" -}}
{{- if eq .Values.models.type "s3" }}
{{- with .Values.models.s3.region }}
- name: AWS_DEFAULT_REGION
  value: {{ . | quote }}
{{- end }}
{{- if .Values.models.s3.existingSecret }}
{{- range tuple "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom: {secretKeyRef: {name: {{ $.Values.models.s3.existingSecret }}, key: {{ . }}}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* A service of one part. Takes a dict: root, part, values, ports (list of name, port, and appProtocol). */}}
{{- define "inference.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "inference.fullname" .root }}-{{ .part }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{ include "inference.labels" . | nindent 4 }}
  {{- with .values.service.annotations }}
  annotations: {{ toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ .values.service.type }}
  {{- if eq .values.service.type "LoadBalancer" }}
  {{- with .values.service.loadBalancerIP }}
  loadBalancerIP: {{ . }}
  {{- end }}
  {{- with .values.service.loadBalancerSourceRanges }}
  loadBalancerSourceRanges: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  selector: {{ include "inference.selector" . | nindent 4 }}
  ports:
    {{- $values := .values }}
    {{- range .ports }}
    - name: {{ .name }}
      port: {{ .port }}
      targetPort: {{ .name }}
      {{- with .appProtocol }}
      appProtocol: {{ . }}
      {{- end }}
      {{- if ne $values.service.type "ClusterIP" }}
      {{- with index $values.service.nodePorts .name }}
      nodePort: {{ . }}
      {{- end }}
      {{- end }}
    {{- end }}
{{- end }}

{{/* Whether several replicas of the server can be. */}}
{{- define "inference.several" -}}
{{- if eq .Values.autoscaling.type "none" -}}
{{- if gt (int .Values.server.replicas) 1 -}}yes{{- end -}}
{{- else if gt (int .Values.autoscaling.max) 1 -}}yes{{- end -}}
{{- end }}

{{/* What the values of several parts mean together; the schema sees each of them alone. */}}
{{- define "inference.checked" -}}
{{- if and (ne .Values.autoscaling.type "none") (gt (int .Values.autoscaling.min) (int .Values.autoscaling.max)) -}}
{{- fail "autoscaling.min is more than autoscaling.max" -}}
{{- end -}}
{{- if and (eq .Values.autoscaling.type "hpa") (lt (int .Values.autoscaling.min) 1) -}}
{{- fail "autoscaling.min is 0, which only keda can; write 1 or more" -}}
{{- end -}}
{{- if and .Values.client.enabled (not .Values.server.enabled) (not .Values.client.server) -}}
{{- fail "client.server is needed where server.enabled is false" -}}
{{- end -}}
{{- $here := and (eq .Values.models.type "pvc") (not .Values.models.pvc.existingClaim) -}}
{{- $two := or .Values.notebook.enabled (include "inference.several" .) -}}
{{- if and $here $two (has "ReadOnlyMany" .Values.models.pvc.accessModes) (eq (len .Values.models.pvc.accessModes) 1) -}}
{{- fail "models.pvc.accessModes: nobody could write models to a claim that is read only" -}}
{{- end -}}
{{- end }}
