{{/* Groups of rules, as Prometheus and its operator both read them. */}}
{{- define "inference.rules" -}}
{{- $full := include "inference.fullname" . -}}
{{- $mine := printf `namespace="%s",pod=~"%s-server-.+"` .Release.Namespace $full -}}
{{- $alerts := .Values.monitoring.alerts -}}
- name: {{ $full }}-server
  rules:
    # Time in the queue to time of work. It is 0, and not nothing, where nobody asks.
    - record: triton:queue_compute:ratio
      expr: |
        sum by (namespace, pod) (rate(nv_inference_queue_duration_us{ {{- $mine -}} }[1m]))
          / clamp_min(sum by (namespace, pod) (rate(nv_inference_compute_infer_duration_us{ {{- $mine -}} }[1m])), 1)
    - record: triton:queue_seconds:mean
      expr: |
        sum by (namespace, pod) (rate(nv_inference_queue_duration_us{ {{- $mine -}} }[5m])) / 1e6
          / clamp_min(sum by (namespace, pod) (rate(nv_inference_request_success{ {{- $mine -}} }[5m])), 0.001)
    - alert: TritonRequestsFail
      expr: |
        sum by (namespace, model) (rate(nv_inference_request_failure{ {{- $mine -}} }[5m]))
          / clamp_min(sum by (namespace, model) (rate(nv_inference_request_success{ {{- $mine -}} }[5m]))
            + sum by (namespace, model) (rate(nv_inference_request_failure{ {{- $mine -}} }[5m])), 0.001)
          > {{ $alerts.failedShare }}
      for: 5m
      labels: {severity: warning}
      annotations:
        summary: {{ `{{ $value | humanizePercentage }} of the requests for model {{ $labels.model }} fail` | quote }}
        description: Look at the server's log for the model, and at its state in the repository index.
    - alert: TritonQueueIsLong
      expr: triton:queue_seconds:mean{ {{- $mine -}} } > {{ $alerts.queueSeconds }}
      for: 10m
      labels: {severity: warning}
      annotations:
        summary: {{ `Requests wait {{ $value | humanizeDuration }} in the queue of {{ $labels.pod }}` | quote }}
        description: More replicas, a larger batch or another instance of the model shorten it.
    - alert: TritonRequestsPile
      expr: sum by (namespace, pod) (nv_inference_pending_request_count{ {{- $mine -}} }) > {{ $alerts.pending }}
      for: 10m
      labels: {severity: warning}
      annotations:
        summary: {{ `{{ $value }} requests wait on {{ $labels.pod }}` | quote }}
        description: More comes in than is worked off.
    - alert: TritonGpuMemoryIsFull
      expr: |
        nv_gpu_memory_used_bytes{ {{- $mine -}} } / nv_gpu_memory_total_bytes{ {{- $mine -}} } > {{ $alerts.gpuMemoryShare }}
      for: 15m
      labels: {severity: warning}
      annotations:
        summary: {{ `The memory of GPU {{ $labels.gpu_uuid }} of {{ $labels.pod }} is {{ $value | humanizePercentage }} full` | quote }}
        description: The next model may not fit, and a larger request may fail.
{{- end }}
