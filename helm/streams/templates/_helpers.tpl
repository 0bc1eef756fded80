{{- define "streams.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "streams.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "streams.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "streams.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "streams.selectorLabels" -}}
app.kubernetes.io/name: {{ include "streams.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "streams.labels" -}}
{{ include "streams.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "streams.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "streams.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "streams.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The Secret that holds the secret settings; empty when there are none. */}}
{{- define "streams.secretName" -}}
{{- if .Values.credentials.existingSecret -}}
{{- .Values.credentials.existingSecret -}}
{{- else if .Values.credentials.values -}}
{{- printf "%s-credentials" (include "streams.fullname" . | trunc 51 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{/* A setting as the text of an environment variable. Helm reads numbers as floats and would print 67108864 as 6.7108864e+07. */}}
{{- define "streams.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- int64 . | toString -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{/* Stops with one message that lists every mistake that the schema cannot see. */}}
{{- define "streams.validate" -}}
{{- $settings := .Values.settings -}}
{{- $credentials := .Values.credentials -}}
{{- $mistakes := list -}}
{{- $place := dict "S3_BUCKET" "my-events" -}}
{{- if eq (lower (default "s3" $settings.SINK)) "sqs" -}}
{{- $place = dict "SQS_QUEUE_URL" "https://sqs.eu-central-1.amazonaws.com/111122223333/my-events" -}}
{{- end -}}
{{- range $name, $example := merge (dict "TOPICS" "orders,payments" "CONSUMER_GROUP" "orders-to-s3") $place -}}
{{- if not (get $settings $name) -}}
{{- $mistakes = append $mistakes (printf "settings.%s is missing (for example %s)" $name $example) -}}
{{- end -}}
{{- end -}}
{{- if not (or $settings.KAFKA_BOOTSTRAP_SERVERS $settings.KAFKA_CLIENT_PROPERTIES) -}}
{{- $mistakes = append $mistakes "settings.KAFKA_BOOTSTRAP_SERVERS is missing (for example broker-1:9092,broker-2:9092)" -}}
{{- end -}}
{{- $drain := default 25 $settings.DRAIN_TIMEOUT_SECONDS | float64 -}}
{{- if lt (float64 .Values.terminationGracePeriodSeconds) (addf $drain 5) -}}
{{- $mistakes = append $mistakes (printf "terminationGracePeriodSeconds is %v, but must be at least %v: settings.DRAIN_TIMEOUT_SECONDS (%v) and 5 s to commit and leave the group. Kubernetes would kill the worker while it drains" .Values.terminationGracePeriodSeconds (addf $drain 5) $drain) -}}
{{- end -}}
{{- if and $credentials.existingSecret $credentials.values -}}
{{- $mistakes = append $mistakes "credentials.existingSecret and credentials.values are both set: choose one" -}}
{{- end -}}
{{- if and $credentials.existingSecret (not $credentials.keys) -}}
{{- $mistakes = append $mistakes "credentials.keys is empty: say which setting is under which key of credentials.existingSecret" -}}
{{- end -}}
{{- if and $credentials.keys (not $credentials.existingSecret) -}}
{{- $mistakes = append $mistakes "credentials.keys is set without credentials.existingSecret" -}}
{{- end -}}
{{- if and (not .Values.serviceAccount.create) .Values.serviceAccount.annotations -}}
{{- $mistakes = append $mistakes "serviceAccount.annotations is set, but serviceAccount.create is false: annotate the account itself" -}}
{{- end -}}
{{- if $mistakes -}}
{{- fail (printf "\n\nThe values are not complete or contradict each other:\n- %s\n" (join "\n- " $mistakes)) -}}
{{- end -}}
{{- end -}}
